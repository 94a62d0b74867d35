export default {
  files: ['out/test/**/*.test.js'],
  workerThreads: false,
  concurrency: 2,
  timeout: '3m',
};
