"""Fixtures that more than one package's tests stand on."""

pytest_plugins = ("tests.kit.node",)
