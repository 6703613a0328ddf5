// What the steps of cells with values of several sizes are written with; matrices are rows of d elements, one after the
// other, and heads as many rows each as there are rows to a sum.

function total(v) {
  let sum = 0;
  for (let j = 0; j < v.length; j++) sum += v[j];
  return sum;
}

function greatest(v) {
  let found = v[0];
  for (let j = 1; j < v.length; j++) found = Math.max(found, v[j]);
  return found;
}

function rowSum(matrix, sums) {
  const d = matrix.length / sums.length;
  for (let row = 0; row < sums.length; row++) {
    let sum = 0;
    for (let at = row * d; at < (row + 1) * d; at++) sum += matrix[at];
    sums[row] = sum;
  }
}

function columnSum(matrix, sums, d) {
  const rows = matrix.length / sums.length;
  for (let unit = 0; unit < sums.length; unit++) {
    let sum = 0;
    for (let at = ((unit - (unit % d)) / d) * rows, row = 0; row < rows; row++) sum += matrix[(at + row) * d + (unit % d)];
    sums[unit] = sum;
  }
}

// The product of matrices of H rows, block by block of d rows, of which the left or the right one is transposed.
function multiplied(left, right, product, d, leftTransposed, rightTransposed) {
  const units = rightTransposed ? product.length / d : left.length / d;
  const columns = product.length / units, inner = rightTransposed ? left.length / units : d;
  for (let row = 0; row < units; row++) {
    const head = row - (row % d);
    for (let col = 0; col < columns; col++) {
      let sum = 0;
      for (let k = 0; k < inner; k++) {
        const a = leftTransposed ? left[(head + k) * d + (row % d)] : left[row * inner + k];
        sum += a * (rightTransposed ? right[(head + col) * inner + k] : right[(head + k) * columns + col]);
      }
      product[row * columns + col] = sum;
    }
  }
}
