window.hold && hold();
