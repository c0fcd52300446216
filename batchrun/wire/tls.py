"""Who is trusted: the system's certificates, certifi's, and those that the environment names.

Companies put their own into the system's store, or name a file: SSL_CERT_FILE, REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE, or a
folder in SSL_CERT_DIR. A name that leads nowhere is an error before anything is sent.
"""

import ssl
import sys
from collections.abc import Mapping
from pathlib import Path

import certifi
import truststore

from batchrun.errors import JobError

VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_SYSTEMS_OWN = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
)
"""Where Linux distributions keep their store, for a Python that was built to look elsewhere."""


def tls_context(environ: Mapping[str, str]) -> ssl.SSLContext:
    """A context that verifies. Raises JobError where a variable names what can't be read or holds no certificate."""
    if sys.platform in ("darwin", "win32"):
        context: ssl.SSLContext = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    else:
        # truststore reads the same files here, but again for every connection
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.set_default_verify_paths()
        for path in filter(Path.is_file, map(Path, _SYSTEMS_OWN)):
            context.load_verify_locations(path)
            break
    context.load_verify_locations(certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    for variable in VARIABLES:
        if environ.get(variable):
            _add(context, variable, Path(environ[variable]))
    return context


def _add(context: ssl.SSLContext, variable: str, path: Path) -> None:
    remedy = f"name a file of certificates in PEM form, or unset {variable}"
    try:
        if path.is_dir():
            context.load_verify_locations(capath=path)
        else:
            context.load_verify_locations(path)
    except FileNotFoundError:
        raise JobError(f"{variable} names {path}, which does not exist; {remedy}") from None
    except ssl.SSLError:
        raise JobError(f"{variable} names {path}, which holds no certificate; {remedy}") from None
    except OSError as error:
        raise JobError(f"{variable} names {path}, which can't be read ({error.strerror}); {remedy}") from None
