/** Metrics as they follow a loss: `, accuracy 0.9321, f1 0.9011`. */
export const formatMetrics = (metrics: Readonly<Record<string, number>> = {}): string =>
  Object.entries(metrics)
    .map(([name, value]) => `, ${name} ${value.toFixed(4)}`)
    .join('');
