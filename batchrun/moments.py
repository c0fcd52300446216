"""When something will be, as people say it. Loads nothing."""

import datetime


def moment(epoch: float, seconds: float) -> str:
    """When it will be so many seconds after `epoch` (seconds since 1970), by the local time: `14:30:05`, `09:00 tomorrow`,
    `09:00 on 2026-12-01`.
    """
    now = datetime.datetime.fromtimestamp(epoch).astimezone()
    then = datetime.datetime.fromtimestamp(epoch + seconds).astimezone()
    days = (then.date() - now.date()).days
    if days == 0:
        return f"{then:%H:%M:%S}"
    return f"{then:%H:%M} tomorrow" if days == 1 else f"{then:%H:%M} on {then:%Y-%m-%d}"
