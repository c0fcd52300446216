"""Request → Answer, over the wire: bytes out, bytes in; an answer, or a fault with its kind. http1/ carries the bytes."""
