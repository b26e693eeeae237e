"""The subcommands of `glm52`, one a file: add_arguments(parser) and run(args) -> exit status."""
