// The theme: Airflow keeps it in the storage that its pages share; otherwise the system's counts.

const systemTheme = matchMedia("(prefers-color-scheme: dark)");

function applyTheme() {
  let theme = "system";
  try {
    theme = localStorage.getItem("theme") ?? "system";
  } catch { /* a browser that refuses storage */ }
  if (theme !== "dark" && theme !== "light") theme = systemTheme.matches ? "dark" : "light";
  document.documentElement.dataset.theme = theme;
}

applyTheme();
systemTheme.addEventListener("change", applyTheme);
addEventListener("storage", applyTheme);
