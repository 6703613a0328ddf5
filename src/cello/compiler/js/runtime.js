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

function modulo(a, b) {
  return a - b * Math.floor(a / b);
}

// Half to even.
function roundEven(v) {
  const down = Math.floor(v), rest = v - down;
  return rest < 0.5 || (rest === 0.5 && down % 2 === 0) ? down : rest >= 0.5 ? down + 1 : v;
}

function signOf(v) {
  return (v > 0) - (v < 0);
}

// A series without cancellation; from 6 on it is 1 in double precision.
function errorFunction(v) {
  if (Math.abs(v) >= 6) return Math.sign(v);
  let term = v, sum = v;
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) sum += term *= (2 * v * v) / (2 * n + 1);
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-v * v) * sum;
}

function softplus(v) {
  return Math.max(v, 0) + Math.log1p(Math.exp(-Math.abs(v)));
}
