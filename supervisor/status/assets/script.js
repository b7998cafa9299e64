"use strict";

// Keeps the page up to date. The server sends the whole of <main> each time that something has changed, and
// here only what differs is replaced: so a selection, a place in a screen reader and the movement of a bar
// outlast it.
(() => {
	const main = document.querySelector("main");
	const note = document.getElementById("note");
	const stale = 5000; // ms without news after which the page says so
	let heard = performance.now();

	const keyOf = (node) => node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null;

	function morph(old, next) {
		if (old.nodeType !== Node.ELEMENT_NODE) {
			if (old.data !== next.data) old.data = next.data;
			return;
		}
		for (const { name } of [...old.attributes]) if (!next.hasAttribute(name)) old.removeAttribute(name);
		for (const { name, value } of next.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
		const wanted = [...next.childNodes];
		const keyed = new Map();
		for (const child of old.childNodes) if (keyOf(child) !== null) keyed.set(keyOf(child), child);
		wanted.forEach((child, i) => {
			const there = old.childNodes[i];
			const key = keyOf(child);
			let match = null;
			if (key !== null) match = keyed.get(key);
			else if (there && there.nodeName === child.nodeName && keyOf(there) === null) match = there;
			if (!match) {
				old.insertBefore(document.importNode(child, true), there || null);
				return;
			}
			if (match !== there) old.insertBefore(match, there || null);
			morph(match, child);
		});
		while (old.childNodes.length > wanted.length) old.lastChild.remove();
	}

	function show(html) {
		const next = new DOMParser().parseFromString(html, "text/html").querySelector("main");
		if (!next) return;
		heard = performance.now();
		document.title = next.dataset.tab;
		morph(main, next);
	}

	function listen() {
		const source = new EventSource("events");
		source.onmessage = (e) => show(e.data);
		source.onerror = () => {
			if (source.readyState !== EventSource.CLOSED) return; // it tries again by itself
			// The server has refused: too many are listening, or it is about to end.
			fetch("./", { cache: "no-store" })
				.then((answer) => answer.ok ? answer.text().then(show) : undefined)
				.catch(() => {})
				.finally(() => setTimeout(listen, 5000));
		};
	}

	setInterval(() => {
		const old = performance.now() - heard > stale;
		if (old === document.body.classList.contains("stale")) return;
		document.body.classList.toggle("stale", old);
		note.textContent = old ? "This page gets no news any more. What it shows is old." : "";
	}, 1000);
	listen();
})();
