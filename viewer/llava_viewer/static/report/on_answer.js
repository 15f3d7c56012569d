// One of several answers is shown: the address says which, and a copy of the file marks what is chosen in it.
stateParts.push({ write: (state) => state.set("n", answerNumber), read: () => {} });
const answerHolder = (one) => one.closest("[data-answer]")?.dataset.answer ?? answerInput.id;
isShown = (block) => answerHolder(block) === answerInput.id;
liveOf = (input) => isShown(input) && byId(withoutPrefix(input.id));
