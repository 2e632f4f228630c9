"use strict";
for (const button of document.querySelectorAll("button.copy")) {
  if (!navigator.clipboard) continue;
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.previousElementSibling.textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}
for (const moments of document.querySelectorAll(".moments")) {
  const all = [...moments.children];
  const bar = document.createElement("div");
  bar.className = "stepper";
  const back = document.createElement("button");
  const on = document.createElement("button");
  const range = document.createElement("input");
  const count = document.createElement("output");
  back.type = on.type = "button";
  back.textContent = "‹ Back";
  on.textContent = "Next ›";
  range.type = "range";
  range.min = 0;
  range.max = all.length - 1;
  range.setAttribute("aria-label", "moment");
  let now = 0;
  const show = (index) => {
    now = Math.max(0, Math.min(all.length - 1, index));
    all.forEach((moment, number) => { moment.hidden = number !== now; });
    range.value = now;
    count.textContent = `${now + 1} / ${all.length}`;
    back.disabled = now === 0;
    on.disabled = now === all.length - 1;
    const svg = moments.closest("section")?.parentElement;
    for (const mark of svg?.querySelectorAll("a.now") ?? []) mark.classList.remove("now");
    const id = all[now].id;
    if (id) svg?.querySelector(`a[href="#${id}"]`)?.classList.add("now");
  };
  back.addEventListener("click", () => show(now - 1));
  on.addEventListener("click", () => show(now + 1));
  range.addEventListener("input", () => show(Number(range.value)));
  bar.append(back, range, on, count);
  moments.before(bar);
  moments.classList.add("stepped");
  const cut = all.map((moment) => moment.classList.contains("cut")).lastIndexOf(true);
  show(cut > 0 ? cut - 1 : all.length - 1);
  const follow = () => {
    const index = all.findIndex((moment) => moment.id && "#" + moment.id === location.hash);
    if (index >= 0) {
      show(index);
      bar.scrollIntoView({ block: "nearest" });
    }
  };
  addEventListener("hashchange", follow);
  follow();
}
