"""Why an image registry does not give what it is asked for.

PackhorseError
├── ImageRegistryError
│   ├── DeniedError           it does not let us in                 mend the login
│   ├── AbsentImageError      it has no such image                  give up
│   ├── PlatformError         none of its images is for this one    give up
│   └── ImageAnswerError      it answers what no registry should    give up
└── LinkError (runtime.errors)
    └── NoRangesError         it gives files whole or not at all    ask from the first byte
"""

from runtime.errors import LinkError, PackhorseError


class ImageRegistryError(PackhorseError):
    """An image registry does not give an image."""


class DeniedError(ImageRegistryError):
    """It does not let us in; `username` is who we said we are, "" for nobody."""

    retryable = True

    def __init__(self, what: str, *, host: str, username: str) -> None:
        as_who = f"refuses the login of {username}" if username else "lets in only who logs in"
        super().__init__(f"{what}: {host} {as_who}")
        self.host, self.username = host, username


class AbsentImageError(ImageRegistryError):
    """It has no such image, or no such layer."""


class PlatformError(ImageRegistryError):
    """The image is not made for this platform."""


class ImageAnswerError(ImageRegistryError):
    """Its answer is not what the specification says."""


class NoRangesError(LinkError):
    """It does not honour HTTP Range."""
