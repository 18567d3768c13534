# MuJoCo's compiled bindings ship no stubs: to the type checker every name in them is Any.
from typing import Any

def __getattr__(name: str) -> Any: ...
