octavo-verify
