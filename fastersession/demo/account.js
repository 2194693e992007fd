// Who is logged in, and on which devices. Names and labels enter the document as textContent only.

const $ = (id) => document.getElementById(id);

// What this browser is called in the list of devices: two words out of all that it says of itself.
export function deviceName(agent) {
  const first = (pairs) => pairs.find(([pattern]) => pattern.test(agent))?.[1];
  const browser = first([[/\bEdg/, "Edge"], [/\bOPR\//, "Opera"], [/Firefox|FxiOS/, "Firefox"],
    [/Chrom(e|ium)|CriOS/, "Chrome"], [/Safari/, "Safari"]]) ?? "A browser";
  const system = first([[/iPhone/, "an iPhone"], [/iPad/, "an iPad"], [/Android/, "Android"], [/Windows/, "Windows"],
    [/Mac OS X/, "macOS"], [/CrOS/, "ChromeOS"], [/Linux/, "Linux"]]);
  return system ? `${browser} on ${system}` : browser;
}

function line({ id, label, here, age }, ago, out) {
  const item = document.createElement("li"), text = document.createElement("span");
  const when = document.createElement("small"), button = document.createElement("button");
  text.dir = "auto";
  text.textContent = label;
  when.textContent = here ? "this browser" : `logged in ${ago(age)} ago`;
  button.type = "button";
  button.className = "quiet";
  button.textContent = "Log out";
  button.ariaLabel = here ? "Log out this browser" : `Log out ${label}`;
  button.addEventListener("click", () => out({ id, here }));
  text.append(when);
  item.append(text, button);
  return item;
}

// Return what shows a user. `change(path, body)` asks the server and looks again; `leave(path, body)` ends our own
// session, too; `ago(seconds)` says how long that is.
export function account({ change, leave, ago }) {
  const box = $("account"), name = $("name");
  const out = ({ id, here }) => here ? leave("/logout", {}) : change("/logout-device", { id });
  let shown = "";
  box.open = matchMedia("(min-width: 50.01rem)").matches; // on a phone the conversation needs the room
  $("login").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (name.value.trim()) await change("/login", { name: name.value, device: deviceName(navigator.userAgent) });
  });
  $("everywhere").addEventListener("click", () => leave("/logout-everywhere", {}));
  return ({ user, devices }) => {
    const now = JSON.stringify([user, devices.map(({ id, label, age }) => [id, label, ago(age)])]);
    if (now === shown) return; // what has the focus keeps it
    shown = now;
    $("login").hidden = user !== null;
    $("known").hidden = user === null;
    $("user").textContent = user ?? "Not logged in";
    $("count").textContent = devices.length > 1 ? ` · ${devices.length} devices` : "";
    if (user !== null) name.value = "";
    $("devices").replaceChildren(...devices.map((device) => line(device, ago, out)));
  };
}
