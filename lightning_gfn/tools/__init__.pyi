from .calculator import Calculator as Calculator, MalformedExpressionError as MalformedExpressionError
from .tool import Tool as Tool
