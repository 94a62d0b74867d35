#include "binding/bind.h"
#include "ops/cholesky.h"
#include "ops/qr.h"
#include "ops/solve.h"
#include "ops/svd-lowrank.h"
#include "ops/svd.h"
#include "ops/symmetric-eigen.h"

// Decompositions on LAPACK.

namespace lorikeet {

static void bind(Napi::Env env, Napi::Object exports, Signatures& signatures) {
  OP(cholesky, "cholesky")
  OP(qr, "qr")
  OP(solve, "solve")
  OP(solve_triangular, "solveTriangular")
  OP(svd, "svd")
  OP(svd_lowrank, "svdLowrank")
  OP(symmetric_eigen, "symmetricEigen")
}

static BindingPart part(bind);

}  // namespace lorikeet
