"""Bytes in and out: pictures, sounds and videos by content, the mel definition, and the guard at the border."""
