"""Settings that users write: typed, frozen, and clear about what is wrong with them."""

from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from growprune.errors import RecipeError

Location = tuple[int | str, ...]


class Settings(BaseModel):
    """Base of every table of settings: it never changes, and an unknown key is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


def settings_error(
    error: ValidationError, settings: type[BaseModel], source: str = "settings"
) -> RecipeError:
    """Turn the first complaint of pydantic into one line: key, value seen, remedy.

    Args:
        error: what pydantic raised.
        settings: the class that was validated; its fields give the near match of a wrong key.
        source: file or object the settings come from; opens the line.
    """
    complaints = error.errors(include_url=False, include_context=False)
    text = f"{source}: {_sentence(complaints[0], settings)}"
    if len(complaints) > 1:
        text += f" (and {len(complaints) - 1} more)"
    return RecipeError(text)


def _sentence(complaint: ErrorDetails, settings: type[BaseModel]) -> str:
    location = complaint["loc"]
    if not location:
        return _reason(complaint)
    key = ".".join(map(str, location))
    if complaint["type"] == "extra_forbidden":
        return f"unknown key '{key}'; {_remedy(location, settings)}"
    if complaint["type"] == "missing":
        return f"'{key}' is missing; add it"
    if complaint["type"] == "model_type":
        return f"'{key}' is {complaint['input']!r}; it should be a table of settings"
    if isinstance(complaint["input"], dict | BaseModel):
        return f"'{key}': {_reason(complaint)}"
    return f"'{key}' is {complaint['input']!r}; {_reason(complaint)}"


def _reason(complaint: ErrorDetails) -> str:
    message = complaint["msg"].removeprefix("Value error, ")
    return message.replace("Input should be", "it should be")


def _remedy(location: Location, settings: type[BaseModel]) -> str:
    known = _fields_at(location[:-1], settings)
    near = get_close_matches(str(location[-1]), known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(known)}"


def _fields_at(location: Location, settings: type[BaseModel]) -> list[str]:
    """The field names of the model nested at `location`; list indices are stepped over."""
    for part in location:
        if isinstance(part, str) and part in settings.model_fields:
            settings = _model_in(settings.model_fields[part].annotation) or settings
    return list(settings.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The first settings class named in an annotation such as `Grow | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    models = map(_model_in, get_args(annotation))
    return next((model for model in models if model is not None), None)
