from .by_rule import (
    FirstOf as FirstOf,
    ReferenceFeedback as ReferenceFeedback,
    SiblingFeedback as SiblingFeedback,
    VerifierFeedback as VerifierFeedback,
)
from .cache import Reply as Reply, ReplyCache as ReplyCache
from .http_chat import ChatFeedback as ChatFeedback
from .lean_messages import LeanFeedback as LeanFeedback
from .self_written import SelfFeedback as SelfFeedback
