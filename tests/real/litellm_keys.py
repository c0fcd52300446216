"""Keys that LiteLLM otherwise keeps in a database: one with a limit, one whose budget is spent, one that is not there.

Runs inside LiteLLM's proxy. Any other key is left to the proxy itself, which knows its master key and no other.
"""

import os
from typing import Any

import litellm
from litellm.proxy._types import ProxyErrorTypes, ProxyException, UserAPIKeyAuth

SPENT = litellm.BudgetExceededError(current_cost=1.5, max_budget=1.0)


async def authenticate(_request: Any, api_key: str) -> UserAPIKeyAuth:
    if api_key == os.environ["LIMITED_KEY"]:
        return UserAPIKeyAuth(api_key=api_key, rpm_limit=30)
    if api_key == os.environ["SPENT_KEY"]:
        raise ProxyException(message=SPENT.message, type=ProxyErrorTypes.budget_exceeded, param=None, code=429)
    if api_key == os.environ["UNKNOWN_KEY"]:
        # what LiteLLM with a database says (litellm/proxy/auth/user_api_key_auth.py)
        raise ProxyException(
            message="Authentication Error, Invalid proxy server token passed. Received API Key = sk-...cdef. Unable to "
            "find token in cache or `LiteLLM_VerificationTokenTable`",
            type=ProxyErrorTypes.token_not_found_in_db,
            param="key",
            code=401,
        )
    raise ValueError("not one of these")
