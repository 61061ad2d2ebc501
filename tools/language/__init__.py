"""Draw sentences of a generated language and train the bundled text networks on them. Not in the installed package."""
