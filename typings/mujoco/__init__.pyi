# MuJoCo's classes and functions come from a compiled module without stubs.
from typing import Any

def __getattr__(name: str) -> Any: ...
