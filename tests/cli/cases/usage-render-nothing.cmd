octavo-render
