"""The base of every document: frozen, without unknown fields, read with validation and written whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from fairlead.errors import ArtifactError
from fairlead.files import read_json, write_json


class Document(BaseModel):
    """A JSON file of a project as a type.

    Fields that hold a figure are None where there is no figure; NaN and infinity are refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The document in a file.

        Raises:
            DataError: if the file is missing or not JSON.
            ArtifactError: if it is JSON of another form, naming the first field that does not fit.
        """
        content = read_json(path)
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "the file"
            raise ArtifactError(
                f"{field} does not fit: {first['msg'].lower()}",
                where=str(path),
                remedy="it was written by another version or edited: make it again with fairlead run",
            ) from error

    def write(self, path: Path) -> None:
        """Writes the document as JSON with sorted keys."""
        write_json(path, self.model_dump(mode="json"))
