// What every cell's step is written with.

// Row `row` of matrix @ vector, summed in double precision.
function dot(matrix, vector, row) {
  const n = vector.length, whole = n - (n % 4);
  let at = row * n, k = 0, a = 0, b = 0, c = 0, d = 0;
  for (; k < whole; k += 4, at += 4) {
    a += matrix[at] * vector[k];
    b += matrix[at + 1] * vector[k + 1];
    c += matrix[at + 2] * vector[k + 2];
    d += matrix[at + 3] * vector[k + 3];
  }
  for (; k < n; k++, at++) a += matrix[at] * vector[k];
  return a + b + (c + d);
}

function sigmoid(v) {
  return 1 / (1 + Math.exp(-v));
}

function softplus(v) {
  return Math.max(v, 0) + Math.log1p(Math.exp(-Math.abs(v)));
}
