"""The errors a user can meet. Each message names what was found, what was expected and what to do."""


class HostMismatchError(RuntimeError):
    """This SGLang is not one the plugin was tested on, or part of the plugin did not take in this process."""


class CheckpointError(ValueError):
    """A checkpoint's files or tensors are not what its config.json describes."""


class ConfigError(ValueError):
    """A configuration value or option that is not supported."""


class CapacityError(ValueError):
    """Something does not fit into the memory, disk or window there is."""
