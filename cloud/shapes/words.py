"""Types that several shapes share."""

from typing import Annotated

from pydantic import Field

ShortText = Annotated[str, Field(max_length=256)]
Labels = dict[ShortText, ShortText]
