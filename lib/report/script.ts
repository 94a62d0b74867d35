/**
 * The read-out of a chart: the values at the step nearest to the pointer, or to the place that the arrow keys chose. Plain JavaScript for the browser; the data
 * of each figure is `[{ label, color, look, points: [[step, text, height]] }]`.
 */
export const kScript = `
for (const figure of document.querySelectorAll('figure.chart')) {
  const plot = figure.querySelector('.plot'), area = figure.querySelector('.area');
  const series = JSON.parse(figure.querySelector('script').textContent).filter((one) => one.look !== 'dashed');
  const [low, high] = area.dataset.domain.split(' ').map(Number);
  const steps = [...new Set(series.flatMap((one) => one.points.map((point) => point[0])))].sort((a, b) => a - b);
  const add = (parent, name, text = '') => {
    const element = parent.appendChild(document.createElement(name === 'key' ? 'i' : name === 'span' || name === 'b' ? name : 'div'));
    if (text === '') element.className = name; else element.textContent = text;
    return element;
  };
  const cursor = add(area, 'cursor'), tip = add(area, 'tip');
  const dots = series.map((one) => { const dot = add(area, 'dot'); dot.style.background = 'var(--c' + one.color + ')'; return dot; });
  tip.setAttribute('role', 'status');
  const place = (step) => ((step - low) / (high - low)) * 100 + '%';
  const nearest = (points, step) => {
    let from = 0, to = points.length - 1;
    while (from < to) { const middle = (from + to) >> 1; if (points[middle][0] < step) from = middle + 1; else to = middle; }
    return from > 0 && step - points[from - 1][0] <= points[from][0] - step ? points[from - 1] : points[from];
  };
  let shown = -1;
  const hide = () => { shown = -1; for (const element of [cursor, tip, ...dots]) element.hidden = true; };
  const show = (index) => {
    shown = Math.max(0, Math.min(steps.length - 1, index));
    const step = steps[shown];
    cursor.hidden = tip.hidden = false;
    cursor.style.left = place(step);
    tip.textContent = '';
    add(tip, 'b', 'step ' + step.toLocaleString('en-US')).style.padding = 0;
    series.forEach((one, index) => {
      const [at, text, height] = nearest(one.points, step), near = Math.abs(at - step) <= (high - low) / 40;
      dots[index].hidden = !near;
      if (!near) return;
      dots[index].style.left = place(at);
      dots[index].style.bottom = height * 100 + '%';
      const row = add(tip, 'row');
      add(row, 'key').classList.add(one.look, 'c' + one.color);
      add(row, 'span', one.label + (at === step ? '' : ' (step ' + at.toLocaleString('en-US') + ')'));
      add(row, 'b', text);
    });
    const width = area.clientWidth, x = ((step - low) / (high - low)) * width;
    const beside = x < width / 2 ? x + 12 : x - 12 - tip.offsetWidth;
    tip.style.left = Math.max(-40, Math.min(width + 8 - tip.offsetWidth, beside)) + 'px';
  };
  const follow = (event) => {
    const box = area.getBoundingClientRect();
    const step = low + ((event.clientX - box.left) / box.width) * (high - low);
    show(steps.indexOf(nearest(steps.map((value) => [value]), step)[0]));
  };
  plot.addEventListener('pointermove', follow);
  plot.addEventListener('pointerdown', follow);
  plot.addEventListener('pointerleave', hide);
  plot.addEventListener('blur', hide);
  plot.addEventListener('keydown', (event) => {
    const pace = Math.max(1, Math.round(steps.length / 50)), last = steps.length - 1;
    const to = { ArrowLeft: (shown < 0 ? last : shown) - pace, ArrowRight: shown + pace, Home: 0, End: last }[event.key];
    if (event.key === 'Escape') hide();
    if (to === undefined) return;
    event.preventDefault();
    show(to);
  });
  hide();
}
`;
