from .columns import UserFunction as UserFunction
