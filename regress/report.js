// The viewer: one pair at a time, flipped in place, where the eye sees differences best.
(() => {
  'use strict';
  const viewer = document.getElementById('viewer');
  const images = { reference: viewer.querySelector('.of-reference'),
                   candidate: viewer.querySelector('.of-candidate'),
                   map: viewer.querySelector('.of-map') };
  const flickerButton = document.getElementById('flicker');
  const list = document.getElementById('prompts');
  let pairs = [], at = 0, shown = 'candidate', timer = 0;

  function show(name) {
    shown = name;
    for (const key in images) {
      images[key].classList.toggle('shown', key === name);
      document.getElementById('show-' + key).setAttribute('aria-pressed', key === name);
    }
  }

  function flicker(on) {
    clearInterval(timer);
    timer = on ? setInterval(() => show(shown === 'reference' ? 'candidate' : 'reference'), 500) : 0;
    flickerButton.setAttribute('aria-pressed', on);
  }

  function open(index) {
    at = (index + pairs.length) % pairs.length;
    const figure = pairs[at], article = figure.closest('article');
    images.reference.src = article.querySelector('.reference img').getAttribute('src');
    images.candidate.src = figure.querySelector('img').getAttribute('src');
    images.map.src = figure.dataset.map;
    document.getElementById('viewer-title').textContent =
        figure.querySelector('b').textContent + ' \u2013 ' + article.querySelector('h3').textContent;
    document.getElementById('viewer-numbers').textContent =
        figure.querySelector('.numbers').textContent.replace(/\s+/g, ' ').trim();
    if (!viewer.open) viewer.showModal();
  }

  function step(by) {
    const prompts = [...list.children];
    const wanted = prompts.indexOf(pairs[at].closest('article')) + by;
    const article = prompts[(wanted + prompts.length) % prompts.length];
    open(pairs.indexOf(article.querySelectorAll('.candidate')[+pairs[at].dataset.candidate]));
  }

  function collect() {
    pairs = [...list.querySelectorAll('.candidate')];
  }

  list.addEventListener('click', event => {
    const figure = event.target.closest('figure');
    if (!figure || !event.target.closest('button')) return;
    const isReference = figure.classList.contains('reference');
    open(pairs.indexOf(isReference ? figure.parentElement.querySelector('.candidate') : figure));
    show(isReference ? 'reference' : 'candidate');
  });

  for (const key in images) {
    document.getElementById('show-' + key).addEventListener('click', () => { flicker(false); show(key); });
  }
  flickerButton.addEventListener('click', () => flicker(!timer));
  document.getElementById('close').addEventListener('click', () => viewer.close());
  viewer.addEventListener('close', () => flicker(false));
  viewer.querySelector('.stage').addEventListener('click', () => {
    flicker(false);
    show(shown === 'reference' ? 'candidate' : 'reference');
  });

  document.addEventListener('keydown', event => {
    if (!viewer.open || event.ctrlKey || event.metaKey || event.altKey) return;
    const actions = {
      ' ': () => { flicker(false); show(shown === 'reference' ? 'candidate' : 'reference'); },
      f: () => flicker(!timer),
      m: () => { flicker(false); show(shown === 'map' ? 'candidate' : 'map'); },
      ArrowRight: () => open(at + 1), ArrowLeft: () => open(at - 1),
      ArrowDown: () => step(1), ArrowUp: () => step(-1),
    };
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });

  document.getElementById('sort').addEventListener('change', event => {
    const key = event.target.value;
    [...list.children].sort((a, b) => a.dataset[key] - b.dataset[key]).forEach(a => list.append(a));
    collect();
  });
  collect();
})();
