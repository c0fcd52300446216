"""The embedded endpoint: a server that speaks OpenAI's chat completions on loopback, for runs without key or network.

It is a stand-in and no language model: it answers from word lists and hashes, the same request always the same way. The
package stands alone and must never import the rest of batchrun; this module must never import the server.
"""

from batchrun.embedded.behaviour import DEFAULT_MODELS, Behaviour
from batchrun.embedded.child import embedded_endpoint
from batchrun.embedded.faults import Fault, parse_faults

__all__ = ["DEFAULT_MODELS", "Behaviour", "Fault", "embedded_endpoint", "parse_faults"]
