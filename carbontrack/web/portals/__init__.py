"""The portal views that ship with Carbon Track. They come by the same hook as a third party's."""
