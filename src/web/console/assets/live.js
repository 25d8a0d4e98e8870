// Says at the top of every page when the worker does not answer any more, and since when; shows times in the reader's
// own zone; and keeps what is ticked and what is chosen together. The pages work without it.
(function () {
  "use strict";
  var EVERY = 5000, PATIENCE = 4000;
  var heard = Date.now(), lost = false, asking = false;

  function span(ms) {
    var s = Math.max(0, Math.round(ms / 1000));
    return s < 100 ? s + " s" : s < 7200 ? Math.floor(s / 60) + " min" : Math.floor(s / 3600) + " h";
  }
  function shown(at, form) {
    var options = { hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZoneName: "short" };
    if (form === "time") options.second = "2-digit";
    var parts = {};
    new Intl.DateTimeFormat("en-GB", options).formatToParts(at).forEach(function (part) { parts[part.type] = part.value; });
    var clock = parts.hour + ":" + parts.minute + (parts.second ? ":" + parts.second : "") + " " + parts.timeZoneName;
    if (form === "time") return clock;
    function two(n) { return (n < 10 ? "0" : "") + n; }
    return at.getFullYear() + "-" + two(at.getMonth() + 1) + "-" + two(at.getDate()) + " " + clock;
  }
  function local(root) {
    root.querySelectorAll("time[data-form]").forEach(function (time) {
      var at = new Date(time.dateTime), form = time.dataset.form;
      delete time.dataset.form;
      if (isNaN(at)) return;
      if (form !== "ago") time.textContent = shown(at, form);
      time.title = shown(at, "date") + ", " + time.dateTime;
    });
    var zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    // What was typed stays in the zone in which it was typed.
    root.querySelectorAll("input[name=zone]").forEach(function (input) {
      if (zone && input.value === "UTC") input.value = zone;
      input.form.querySelectorAll("[data-zone]").forEach(function (said) { said.textContent = input.value; });
    });
  }

  function tell() {
    var said = document.getElementById("away");
    if (!said) return;
    said.hidden = !lost;
    document.body.classList.toggle("away", lost);
    if (!lost) return;
    said.querySelector("[data-since]").textContent = shown(new Date(heard), "time");
    said.querySelector("[data-age]").textContent = span(Date.now() - heard);
  }
  function here() { heard = Date.now(); lost = false; tell(); }
  function gone() { lost = true; tell(); }
  function ask() {
    if (asking) return tell();
    asking = true;
    var stop = new AbortController(), late = setTimeout(function () { stop.abort(); }, PATIENCE);
    fetch("/alive", { cache: "no-store", signal: stop.signal })
      .then(function (answer) { answer.ok ? here() : gone(); }, gone)
      .then(function () { clearTimeout(late); asking = false; });
  }

  function ticked() {
    var count = document.querySelectorAll("input[name=id]:checked").length;
    document.querySelectorAll("[data-ticked]").forEach(function (said) { said.textContent = " (" + count + ")"; });
  }
  document.addEventListener("change", function (event) {
    if (!event.target.matches("input[name=id], input[name=which]")) return;
    // What is ticked is meant; whoever chooses all means more than that.
    if (event.target.name === "id" && event.target.checked) document.querySelectorAll("input[name=which][value=ticked]").forEach(function (radio) { radio.checked = true; });
    if (event.target.name === "which" && event.target.value === "all") document.querySelectorAll("input[name=id]").forEach(function (box) { box.checked = false; });
    ticked();
  });

  document.addEventListener("htmx:sseError", ask);
  document.addEventListener("htmx:sseOpen", here);
  document.addEventListener("htmx:sendError", ask);
  document.addEventListener("DOMContentLoaded", function () {
    local(document);
    ticked();
    new MutationObserver(function (changes) {
      changes.forEach(function (change) {
        change.addedNodes.forEach(function (node) { if (node.nodeType === 1) local(node.parentNode || node); });
      });
    }).observe(document.body, { childList: true, subtree: true });
    setInterval(ask, EVERY);
    // Boxes that the browser has filled again on the way back.
    window.addEventListener("pageshow", ticked);
  });
})();
