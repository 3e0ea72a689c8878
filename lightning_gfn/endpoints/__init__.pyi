from .cache import Reply as Reply, ReplyCache as ReplyCache
from .client import ChatClient as ChatClient
from .http_json import BudgetSpent as BudgetSpent, Endpoint as Endpoint, EndpointError as EndpointError
