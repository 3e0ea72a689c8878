from .by_rule import (
    FirstOf as FirstOf,
    ReferenceFeedback as ReferenceFeedback,
    SiblingFeedback as SiblingFeedback,
    VerifierFeedback as VerifierFeedback,
)
from .http_chat import ChatFeedback as ChatFeedback
from .lean_messages import LeanFeedback as LeanFeedback
from .self_written import SelfFeedback as SelfFeedback
