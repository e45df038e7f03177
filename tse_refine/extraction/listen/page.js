// The players: one sound at a time, a line in the spectrogram at its position, and a click there, or on the time line
// below, to play from that place.
(() => {
  const cardOf = (element) => element.closest(".listen-card");
  const secondsOf = (player) => Number(cardOf(player).dataset.seconds); // known before the player has loaded anything
  const place = (player) => {
    const line = cardOf(player)?.querySelector(".listen-playhead");
    if (!line) return;
    line.style.left = `${(100 * player.currentTime) / secondsOf(player)}%`;
    line.classList.toggle("listen-moving", player.currentTime > 0);
  };
  const follow = (player) => {
    place(player);
    if (!player.paused) requestAnimationFrame(() => follow(player));
  };
  const ours = (event) => event.target instanceof HTMLAudioElement && cardOf(event.target);
  document.addEventListener(
    "play",
    (event) => {
      if (!ours(event)) return;
      for (const other of document.querySelectorAll(".listen-card audio")) if (other !== event.target) other.pause();
      follow(event.target);
    },
    true, // media events do not bubble
  );
  document.addEventListener("seeked", (event) => ours(event) && place(event.target), true);
  document.addEventListener("click", (event) => {
    const picture = event.target instanceof Element && event.target.closest(".listen-picture, .listen-lane");
    if (!picture) return;
    const player = cardOf(picture).querySelector("audio");
    const box = picture.getBoundingClientRect();
    player.currentTime = ((event.clientX - box.left) / box.width) * secondsOf(player);
    player.play();
  });
})();
