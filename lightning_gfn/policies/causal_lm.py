"""Any Hugging Face causal language model as a policy."""

from __future__ import annotations

from lightning_gfn.policies.models.architectures import DecoderOnly
from lightning_gfn.policies.teacher import TeachingLM


class CausalLM(TeachingLM):
    """A decoder-only language model that samples actions and scores them; see ``LanguageModel`` for its settings.

        log q(action, stop | context) = Σ_t log q(a_t | context, a_<t) + log q(stop | context, a)

    over the actions that ``ActionSpace`` defines.
    """

    architecture = DecoderOnly()
