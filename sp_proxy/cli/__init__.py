"""One module a subcommand; the only room that prints for people or exits."""
