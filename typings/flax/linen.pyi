# Flax says that `Module.apply` may return a tuple, and hides `replace`: here, all of it is Any.
from typing import Any

def __getattr__(name: str) -> Any: ...
