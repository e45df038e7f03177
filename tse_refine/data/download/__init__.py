"""Published archives: downloaded, verified, unpacked."""
