"""`python -m emoc_tf.annotation`."""

from emoc_tf.annotation import run

if __name__ == "__main__":
    run()
