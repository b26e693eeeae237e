"""Used by the tests and by `glm52 demo`: shipped, so that other projects can test against a real server too."""
