"""The wire protocol, generated from proto/forebay/v1 by tools/stubs. Not edited by hand."""
