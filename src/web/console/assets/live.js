// Says so when the events of the page do not come any more, and takes it back when they do.
(function () {
  function away(is) {
    var said = document.getElementById("away");
    if (said) said.hidden = !is;
  }
  document.addEventListener("htmx:sseError", function () { away(true); });
  document.addEventListener("htmx:sseOpen", function () { away(false); });
})();
