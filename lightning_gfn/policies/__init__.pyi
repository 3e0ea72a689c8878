from .action_space import ActionSpace as ActionSpace
from .causal_lm import CausalLM as CausalLM
from .critic import Critic as Critic
from .decoder_factory import DecoderFactory as DecoderFactory
from .heads import (
    Float32Network as Float32Network,
    FlowHead as FlowHead,
    Head as Head,
    HiddenHead as HiddenHead,
    InFloat32 as InFloat32,
    LogZHead as LogZHead,
    LogZScalar as LogZScalar,
    PrefixHead as PrefixHead,
    ValueHead as ValueHead,
)
from .language_model import LanguageModel as LanguageModel
from .language_policy import LanguagePolicy as LanguagePolicy
from .models.adapters import LoraSettings as LoraSettings
from .seq2seq_lm import Seq2SeqLM as Seq2SeqLM
from .teacher import TeachingLM as TeachingLM
from .text_likelihood import TextScoringLM as TextScoringLM
from .vllm.settings import VllmSettings as VllmSettings
