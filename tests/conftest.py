"""Options and fixtures of all tests."""


def pytest_addoption(parser):
    parser.addoption("--references", default=None, metavar="DIR",
                     help="a larger folder of reference results (DIR/refs, DIR/data) for test_references.py")
