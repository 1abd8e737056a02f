"""The options of each command, as dataclasses that the command line fills in.

The modules of this package import nothing that takes long, so that help texts and messages about wrong
arguments appear at once. What a command does is in the module of the same name one level up, which ``run``
imports.
"""
