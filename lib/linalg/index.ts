export { cholesky } from './cholesky.js';
export { type QrFactors, qr } from './qr.js';
export { type RandomizedSvdOptions, randomizedSvd } from './randomized-svd.js';
export { inverse, type SolveTriangularOptions, solve, solveTriangular } from './solve.js';
export { type SvdFactors, svd } from './svd.js';
export { type LowrankFactors, type SvdLowrankOptions, svdLowrank } from './svd-lowrank.js';
export { type EigenFactors, symmetricEigen } from './symmetric-eigen.js';
