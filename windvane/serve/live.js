// Keeps a page of windvane serve up to date, and sends its form.
"use strict";

const SECONDS = 2;
const main = document.querySelector("main[data-live]");
let shown = null;

function show(html) {
  if (html === shown || getSelection().type === "Range") return;
  const open = new Set(Array.from(main.querySelectorAll("details[open] > summary"), one => one.textContent));
  const across = Array.from(main.querySelectorAll(".scroll"), one => one.scrollLeft);
  main.innerHTML = html;
  main.querySelectorAll("details > summary").forEach(one => { one.parentElement.open = open.has(one.textContent); });
  main.querySelectorAll(".scroll").forEach((one, i) => { one.scrollLeft = across[i] || 0; });
  shown = html;
}

async function refresh() {
  if (!document.hidden) {
    try {
      const answer = await fetch(main.dataset.live);
      if (answer.ok) show(await answer.text());
      document.body.classList.remove("stale");
    } catch {
      document.body.classList.add("stale");
    }
  }
  setTimeout(refresh, SECONDS * 1000);
}

if (main) setTimeout(refresh, SECONDS * 1000);

// A page that waits for another one, which takes a while to make.
const next = document.querySelector("[data-next]");
if (next) location.replace(next.dataset.next);

const form = document.querySelector("form[data-predict]");

function request() {
  const image = form.querySelector("input[type=file]");
  if (image) {
    const file = image.files[0];
    return file && { body: file, headers: { "Content-Type": file.type || "application/octet-stream" } };
  }
  const row = {};
  for (const one of form.querySelectorAll("[data-column]")) {
    row[one.dataset.column] = one.value.trim() === "" ? null : one.value;
  }
  return { body: JSON.stringify(row), headers: { "Content-Type": "application/json" } };
}

function report(columns, text) {
  const note = document.createElement("p");
  note.className = "note warn";
  let named = 0;
  form.querySelectorAll("[data-column]").forEach(one => {
    const wrong = columns[one.dataset.column];
    one.classList.toggle("bad", wrong !== undefined);
    one.parentElement.querySelector(".error").textContent = wrong || "";
    if (wrong && !named++) one.focus();
  });
  note.textContent = named ? `${named} field${named > 1 ? "s" : ""} cannot be read, see above.` : text;
  return note;
}

if (form) {
  const result = document.getElementById("result");
  const image = form.querySelector("input[type=file]");
  if (image) {
    image.addEventListener("change", () => {
      form.querySelectorAll("img").forEach(one => one.remove());
      if (!image.files.length) return;
      const picture = document.createElement("img");
      picture.alt = image.files[0].name;
      picture.src = URL.createObjectURL(image.files[0]);
      picture.addEventListener("error", () => picture.remove());
      image.parentElement.append(picture);
    });
  }
  form.addEventListener("submit", async event => {
    event.preventDefault();
    const what = request();
    if (!what) {
      result.replaceChildren(report({}, "Choose an image first."));
      return;
    }
    const button = form.querySelector("button");
    button.disabled = true;
    button.textContent = "Predicting ...";
    try {
      const answer = await fetch(form.dataset.predict, { method: "POST", ...what });
      if (answer.ok) {
        report({}, "");
        result.innerHTML = await answer.text();
      } else {
        const error = await answer.json();
        result.replaceChildren(report(error.columns || {}, error.error));
      }
    } catch {
      result.replaceChildren(report({}, "There is no answer: windvane serve has ended."));
    }
    button.disabled = false;
    button.textContent = "Predict";
  });
}
