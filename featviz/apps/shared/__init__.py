"""Parts that several apps share: rendering of batches into a store, pages, photographs, class names, layer checks."""
