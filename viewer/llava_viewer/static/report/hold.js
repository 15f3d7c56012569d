window.hold&&hold()
